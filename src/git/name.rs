//! Git's rules for names of refs (git-check-ref-format(1)), in words.

use gix::validate::reference::name::Error as Fault;

/// Which rule a name breaks that is to stand behind a prefix such as `refs/heads/`; `Ok` if none.
///
/// # Errors
/// The rule, as the end of a sentence that begins with the name.
pub fn check_ref_name(name: &str) -> Result<(), String> {
    if name == "HEAD" || name == "@" {
        return Err("means the current commit to Git".to_owned());
    }
    let Err(fault) = gix::validate::reference::name_partial(name.into()) else {
        return Ok(());
    };
    Err(match fault {
        Fault::Empty => "is empty".to_owned(),
        Fault::InvalidByte { byte } => format!(
            "contains {:?}, which Git allows in no name (nor blanks, control characters, ~ ^ : ? [ or \\)",
            byte.to_string()
        ),
        Fault::Asterisk => "contains `*`, which Git allows in no name".to_owned(),
        Fault::StartsWithSlash => "begins with a slash".to_owned(),
        Fault::EndsWithSlash => "ends with a slash".to_owned(),
        Fault::RepeatedSlash => "has two slashes in a row".to_owned(),
        Fault::RepeatedDot => "contains `..`, which Git allows in no name".to_owned(),
        Fault::StartsWithDot => "has a part that begins with a dot".to_owned(),
        Fault::EndsWithDot => "ends with a dot".to_owned(),
        Fault::LockFileSuffix => "has a part that ends in `.lock`".to_owned(),
        Fault::ReflogPortion => "contains `@{`, which begins a reflog entry".to_owned(),
        other => format!("is not a name for Git: {other}"),
    })
}
