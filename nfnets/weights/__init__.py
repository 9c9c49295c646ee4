"""Parameters from and to files of every form that NFNets come in."""
