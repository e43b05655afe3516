"""What the user can ask for, a module each: its flags, a few calls, nothing else."""
