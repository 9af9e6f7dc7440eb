"""What happened: frozen events by topic, their codec, and the log that keeps them."""
