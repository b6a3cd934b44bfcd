//! Every resource is told once: its route and its place in the OpenAPI document are made by the same line, so that neither can
//! be forgotten.

use super::Shared;
use crate::schema::Problem;
use axum::{
    Router,
    handler::Handler,
    routing::{MethodRouter, get, post},
};
use bytes::Bytes;
use hyper::header;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ComponentsBuilder, Content, HttpMethod, InfoBuilder, OpenApiBuilder, PathItem,
        PathsBuilder, Ref, RefOr, Required, ResponseBuilder,
        path::{OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::Schema,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

/// Where the document is.
pub(super) const DOCUMENT: &str = "/openapi.json";

/// The name of the token in the document.
const TOKEN: &str = "token";

const JSON: &str = "application/json";

/// What a resource takes and gives, in words and types.
pub(super) struct About {
    operation: OperationBuilder,
    schemas: Vec<(String, RefOr<Schema>)>,
    /// Whether it answers without a token.
    open: bool,
}

/// Begins to tell of a resource, in a third-person sentence.
pub(super) fn about(summary: &str) -> About {
    let operation = OperationBuilder::new().summary(Some(summary));
    let refused = ResponseBuilder::new()
        .description("Why not; the code is the same as on the command line")
        .content("application/problem+json", Content::new(Some(reference::<Problem>())))
        .build();
    About { operation: operation.response("default", refused), schemas: Vec::new(), open: false }
        .knows::<Problem>()
}

impl About {
    /// Takes one JSON object.
    pub(super) fn takes<T: ToSchema>(self) -> Self {
        self.takes_as::<T>(&[JSON])
    }

    /// Takes one JSON object, or several, one a line.
    pub(super) fn takes_lines<T: ToSchema>(self) -> Self {
        self.takes_as::<T>(&[JSON, "application/x-ndjson"])
    }

    fn takes_as<T: ToSchema>(mut self, kinds: &[&str]) -> Self {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        let body = kinds
            .iter()
            .fold(body, |body, kind| body.content(*kind, Content::new(Some(reference::<T>()))));
        self.operation = self.operation.request_body(Some(body.build()));
        self.knows::<T>()
    }

    /// Answers with one JSON object.
    pub(super) fn gives<T: ToSchema>(self) -> Self {
        self.gives_as::<T>(JSON)
    }

    /// Answers with server-sent events, each with such an object as its data.
    pub(super) fn gives_events<T: ToSchema>(self) -> Self {
        self.gives_as::<T>("text/event-stream")
    }

    fn gives_as<T: ToSchema>(mut self, kind: &str) -> Self {
        let answer = ResponseBuilder::new()
            .description("Done")
            .content(kind, Content::new(Some(reference::<T>())))
            .build();
        self.operation = self.operation.response("200", answer);
        self.knows::<T>()
    }

    /// Has a value in its query.
    pub(super) fn query<T: ToSchema>(self, name: &str, required: bool, what: &str) -> Self {
        self.parameter::<T>(ParameterIn::Query, name, required, what)
    }

    /// Hears a header.
    pub(super) fn header<T: ToSchema>(self, name: &str, what: &str) -> Self {
        self.parameter::<T>(ParameterIn::Header, name, false, what)
    }

    fn parameter<T: ToSchema>(
        mut self,
        place: ParameterIn,
        name: &str,
        required: bool,
        what: &str,
    ) -> Self {
        let required = if required { Required::True } else { Required::False };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(what))
            .schema(Some(T::schema()));
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// Answers also to those who show no token.
    pub(super) fn open(mut self) -> Self {
        self.open = true;
        self
    }

    fn knows<T: ToSchema>(mut self) -> Self {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        self
    }
}

fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// Routes and the document of them, growing together.
pub(super) struct Resources {
    router: Router<Shared>,
    paths: PathsBuilder,
    components: ComponentsBuilder,
}

impl Resources {
    pub(super) fn new() -> Self {
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("`token` of api.json in the home; not needed on the socket"));
        Self {
            router: Router::new(),
            paths: PathsBuilder::new(),
            components: ComponentsBuilder::new()
                .security_scheme(TOKEN, SecurityScheme::Http(token.build())),
        }
    }

    /// Adds a resource that is read.
    pub(super) fn get<H, T>(self, path: &str, about: About, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        self.add(path, HttpMethod::Get, about, get(handler))
    }

    /// Adds a resource that changes something.
    pub(super) fn post<H, T>(self, path: &str, about: About, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        self.add(path, HttpMethod::Post, about, post(handler))
    }

    fn add(
        mut self,
        path: &str,
        method: HttpMethod,
        about: About,
        route: MethodRouter<Shared>,
    ) -> Self {
        let About { mut operation, schemas, open } = about;
        if !open {
            operation = operation.security(SecurityRequirement::new(TOKEN, Vec::<String>::new()));
        }
        // What stands in braces is part of the path.
        let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for name in names {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(String::schema()));
            operation = operation.parameter(parameter);
        }
        let known = schemas.into_iter();
        self.components =
            known.fold(self.components, |all, (name, schema)| all.schema(name, schema));
        self.paths = self.paths.path(path, PathItem::new(method, operation));
        self.router = self.router.route(path, route);
        self
    }

    /// Returns the routes, with the document as one more of them.
    pub(super) fn into_router(self) -> Router<Shared> {
        let Self { router, paths, components } = self;
        let info = InfoBuilder::new()
            .title("oob")
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some(
                "The local API of an oob daemon. Fields are only ever added; ids are lower-case base32, times RFC 3339 in UTC \
                 with milliseconds, durations end in _ms, and what is absent is null.",
            ));
        let document = OpenApiBuilder::new()
            .info(info.build())
            .paths(paths.build())
            .components(Some(components.build()))
            .build();
        // Made of our own types, which are all JSON.
        let document = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
        router
            .route(DOCUMENT, get(move || async move { ([(header::CONTENT_TYPE, JSON)], document) }))
    }
}
