//! Who am I, and which roles are there: `authz`.

use super::{Command, Context, Outcome, Words, command, none};
use crate::doc::{Data, Doc, Form};

pub(super) static COMMANDS: &[Command] = &[
    command! { "authz id", "", Access, "Shows the user of this session and their roles, as XML", id },
    command! { "authz roles list", "", Access, "Lists the roles of the configuration, as XML", roles },
];

async fn id(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let names = context.access.names(&context.user);
    let data = Data::map([
        ("@username", context.user.as_str().into()),
        ("Roles", Data::list("Role", names.into_iter().skip(1).map(|name| Data::map([("@name", name.into())])))),
    ]);
    Ok(as_xml("AuthzInformation", data))
}

async fn roles(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let roles = context.access.roles.iter().map(|role| Data::map([("@name", role.name.as_str().into())]));
    Ok(as_xml("Roles", Data::list("Role", roles)))
}

/// The text form of these two is their XML.
fn as_xml(root: &'static str, data: Data) -> Doc {
    let doc = Doc::new(root).with(data);
    let xml = doc.render(Form::Xml);
    xml.lines().fold(doc, |doc, line| doc.line(line))
}
