"""What every command needs of the machine: flags and errors, progress, devices, files, signals, several processes."""
