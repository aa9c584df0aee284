"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """Bad input. The message is one line that names what is wrong and what to do about it.

    The command line prints it and ends with exit code 2; a notebook shows it as its last line.
    """
