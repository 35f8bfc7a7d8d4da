"""What momentum, dither and blending earn: where they should help, and where not."""
