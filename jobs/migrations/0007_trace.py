"""The trace that a job was enqueued in, for OpenTelemetry. A column nobody has to fill."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0006_events'),
    ]

    operations = [
        migrations.AddField(
            model_name='finishedjob',
            name='trace',
            field=models.TextField(blank=True, help_text='JSON text: the trace it was enqueued in.', null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='trace',
            field=models.TextField(blank=True, help_text='JSON text: the trace it was enqueued in.', null=True),
        ),
    ]
