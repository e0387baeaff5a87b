"""What is attached to a live model while it trains: counting, tracking, masking, silencing."""
