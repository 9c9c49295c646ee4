"""Estimates of a run before it starts or anything is rented: memory, time, cores."""
