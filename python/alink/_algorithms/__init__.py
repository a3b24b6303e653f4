"""What Alink's operators do to rows, in workers.

Nothing here knows of plans, the engine or the client: the package travels to workers by
itself, and what is read of it in the client is its types and string forms.
"""
