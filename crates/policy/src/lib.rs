//! (front door to come)
