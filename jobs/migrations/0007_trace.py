"""The trace that a job was enqueued in, for OpenTelemetry. A column nobody has to fill.

The history gets its own in a migration of its own: whoever ends jobs takes both tables, in either order, and a transaction
that has locked one and waits for the other would meet them in a deadlock.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0006_events'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='trace',
            field=models.TextField(blank=True, help_text='JSON text: the trace it was enqueued in.', null=True),
        ),
    ]
