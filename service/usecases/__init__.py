"""Use cases: one public function for each operation that a person, a worker or a loop requests."""
