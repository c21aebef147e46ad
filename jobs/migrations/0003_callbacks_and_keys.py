"""What a job calls back when it ends, and idempotency keys that hold for a time. Each is a column nobody has to fill."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0002_storage'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='key',
            options={'permissions': [('forget_key', 'Can forget idempotency keys')], 'verbose_name': 'idempotency key'},
        ),
        migrations.AddField(
            model_name='finishedjob',
            name='callbacks',
            field=models.TextField(blank=True, help_text='JSON text: what to enqueue when it ends.', null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='callbacks',
            field=models.TextField(blank=True, help_text='JSON text: what to enqueue when it ends.', null=True),
        ),
        migrations.AddField(
            model_name='key',
            name='generation',
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='key',
            name='until',
            field=models.CharField(blank=True, db_default='', default='', help_text='"finished": it holds while its job lives.', max_length=10),
        ),
        migrations.AddIndex(
            model_name='key',
            index=models.Index(condition=models.Q(('generation__gt', 0)), fields=['task', 'key', '-generation'], name='jobs_key_generation'),
        ),
    ]
