from shop.celery import app


def waiting(queue: str = "celery") -> int:
    """Messages at the broker, Redis or RabbitMQ. What a worker holds, `celery -A shop inspect ...` tells."""
    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare(queue, passive=True).message_count
