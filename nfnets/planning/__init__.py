"""What a run will take, before it is started or anything is rented: memory, time, cores."""
