"""Local SGD: ranks train alone and average their parameters now and then."""
