"""What a report hands on to others: its card, and files for benchmarks, model hubs and trackers; one file a format."""

from reports.exports.together import EXPORTS, Exported, clear, exported, log, require_exports, require_own

__all__ = ["EXPORTS", "Exported", "clear", "exported", "log", "require_exports", "require_own"]
