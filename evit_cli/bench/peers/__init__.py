"""Models of others that a user might take instead: from their libraries, random weights."""
