"""What a run recorded: the recording, and the segments of its captures. Pure."""
