"""Log lines for a person at a terminal."""

import logging

import dagster as dg


class _Plain(logging.Formatter):
    """`12:34:56 klines: 43,915 candles stored` instead of run ids and step keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        meta = getattr(record, "dagster_meta", None) or {}
        message = meta.get("orig_message") or record.getMessage()
        clock = self.formatTime(record, "%H:%M:%S")
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        return f"{clock} {level}{message}"


@dg.logger({"log_level": dg.Field(str, default_value="INFO", description="Least level shown.")})
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """Write plain lines to standard error."""
    logger = logging.Logger("flash_pipeline", level=context.logger_config["log_level"])
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    logger.addHandler(handler)
    return logger
