"""Errors whose message is written for the user: one line, the file or key by name, and what to do."""


class XLLMError(Exception):
    """Base of every expected failure. The command line prints the message alone, without a traceback."""


class MediaError(XLLMError):
    """A media file cannot be used: missing, of an unknown format, damaged, empty or beyond the limits."""


class ConfigError(XLLMError):
    """A recipe, option, checkpoint or device that cannot be used as given."""


class ManifestError(XLLMError):
    """A line of a manifest that is not a sample; the message names file and line."""


class Unavailable(XLLMError):
    """A service that gives no replies now: out of reach, refusing everybody, or beyond a limit that was set."""
