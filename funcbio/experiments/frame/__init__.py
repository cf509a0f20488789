"""What all experiments share: settings as options, files and what is kept of them, bars, tables, intervals."""
