"""The demo shop: paper, pens and ink, sold through the outbox."""
