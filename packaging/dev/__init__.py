"""What ./dev is made of. Standard library only: it runs before anything is installed.

The folder above must never get an __init__.py: it stands on sys.path under the name of a package
from PyPI that pytest needs, and only a real package would win over that one.
"""
