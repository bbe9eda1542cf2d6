"""The process inside: receives a plan, builds the container, runs the program. Imports igaki.ops only."""
