//! Every promise that a store can break, once.
