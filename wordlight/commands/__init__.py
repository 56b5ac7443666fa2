"""The commands of `wordlight`, one module for each. A command imports what it needs when it runs."""
