"""What a model learns from: feedback, samples that it may trust, and the last layer."""
