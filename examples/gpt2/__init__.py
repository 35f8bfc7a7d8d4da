"""Fine-tune GPT-2 with a learning rate that regulates itself."""
