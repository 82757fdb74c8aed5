"""What stands beside recordings and describes them: tables of every kind, and files of one caption each."""
