"""Contract tests for plug-in authors, and the tiny things they run on."""
