"""The command line: parse options, call one function of a lower floor, print the result."""
