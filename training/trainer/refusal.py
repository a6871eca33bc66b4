"""The one error that a user can repair."""


class Refusal(Exception):
    """Input that no model can be made from. The message gives the rule, what was found and the repair."""

    def __init__(self, code: str, message: str, repair: str):
        super().__init__(f"{code}: {message}; {repair}")
        self.code = code
