//! `#[derive(Describe)]`: a method that names the fields of a struct.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Adds `fn fields() -> &'static [&'static str]` to a struct with named fields.
#[proc_macro_derive(Describe)]
pub fn describe(item: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = item.into_iter().collect();
    let name = tokens.windows(2).find_map(|pair| match pair {
        [TokenTree::Ident(keyword), TokenTree::Ident(name)] if keyword.to_string() == "struct" => {
            Some(name.to_string())
        }
        _ => None,
    });
    let body = tokens.iter().rev().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
        _ => None,
    });
    let (Some(name), Some(body)) = (name, body) else {
        return "compile_error!(\"`Describe` is for structs with named fields\");"
            .parse()
            .unwrap_or_default();
    };
    let fields = fields(body).join(", ");
    format!(
        "impl {name} {{
            /// The names of the fields.
            pub fn fields() -> &'static [&'static str] {{ &[{fields}] }}
        }}"
    )
    .parse()
    .unwrap_or_default()
}

/// The identifiers in front of a single colon, quoted.
fn fields(body: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let mut fields = Vec::new();
    let mut in_type = false;
    for pair in tokens.windows(2) {
        match pair {
            [TokenTree::Ident(name), TokenTree::Punct(colon)]
                if colon.as_char() == ':' && !in_type =>
            {
                fields.push(format!("{:?}", name.to_string()));
                in_type = true;
            }
            [TokenTree::Punct(comma), _] if comma.as_char() == ',' => in_type = false,
            _ => {}
        }
    }
    fields
}
