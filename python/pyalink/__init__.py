"""PyAlink's name for `alink.operators`: ``from pyalink.alink import *``."""
