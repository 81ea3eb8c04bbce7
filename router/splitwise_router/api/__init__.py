"""The OpenAI API as data: bodies checked into records, answers and errors into bodies."""
