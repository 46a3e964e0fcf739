"""What several tests need: a chat endpoint on loopback."""
