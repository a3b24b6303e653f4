"""Attacks on the sandbox: hostile functions that run in real workers of a real engine.

``python -m attack`` (``make attack``) runs all of them at every level of the sandbox that the
machine reaches, as root and as an ordinary user, and compares what succeeds with
``expected.txt``. ``case.py`` says what an attack is. The modules ``files``, ``network``,
``processes``, ``kernel`` and ``limits`` hold functions that run in workers, ``returned`` and
``queries`` attack the engine and the client with what comes back or goes in. ``scene.py``
makes what is attacked, and looks from outside whether an attack has had an effect.

Nothing here may harm the machine when it succeeds: what is read, changed, stopped or killed
is made for the purpose, system calls have arguments that do nothing, and what is filled has
a bound.
"""
