"""What SponsorSync is about, without any framework: pure values and rules, `now` passed in."""
