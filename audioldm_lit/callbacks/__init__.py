"""What happens beside training: auditions, dials, averages, and the result at the end."""
