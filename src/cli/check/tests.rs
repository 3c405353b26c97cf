//! The report: what each state looks like, and that no credential is in it.
