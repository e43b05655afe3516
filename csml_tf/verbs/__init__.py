"""What the user can ask for, a module each: its flags, a few calls, nothing else.

What does the work is imported where it is called, because much of it imports TensorFlow, which
takes seconds: help, and a wrong flag, do not wait for it.
"""
