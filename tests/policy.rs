//! Policies from outside: what is accepted, what is refused and in which words, and what the documents say of it.

mod policy_mistakes {
    mod base;
    mod one_mistake;
    mod properties;
    mod told;
}
mod policy_valid {
    mod documents;
    mod model;
    mod scripts;
    mod shipped;
}
