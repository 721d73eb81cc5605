"""Tables: columns of numbers, text and dates, from files to the matrix that a network takes."""
