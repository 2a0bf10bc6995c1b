"""What a report says, one file for each section; their order is in :mod:`reports.sections.contents`."""
