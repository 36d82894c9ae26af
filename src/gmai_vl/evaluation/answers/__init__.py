"""What a response answers: read out of its words, never guessed."""
