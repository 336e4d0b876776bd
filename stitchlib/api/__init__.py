"""The documented classes and functions: state, and delegation to the engine."""
