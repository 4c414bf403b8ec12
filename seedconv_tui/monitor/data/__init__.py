"""What screens know of a study: read in the background, kept between refreshes."""
