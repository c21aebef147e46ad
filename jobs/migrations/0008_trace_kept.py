"""The trace of a job that has ended: see the migration before."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0007_trace'),
    ]

    operations = [
        migrations.AddField(
            model_name='finishedjob',
            name='trace',
            field=models.TextField(blank=True, help_text='JSON text: the trace it was enqueued in.', null=True),
        ),
    ]
