"""Is this still a sound run, and whose fault is it if not?"""
