//! [`Participants`] over gRPC.
//!
//! Every gRPC error, every unreadable reply and every passed deadline is indeterminate; see
//! [`methods`] for the few codes that existing methods may refuse a Try with. No task is
//! started per call: dropping a call's future resets its stream.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::RwLock;
use tercet_core::{
    answer::{Answer, QueryAnswer},
    payload::Failure,
    transaction::Target,
};
use tokio::time::Instant;

use super::{
    ConfigError, Connector, Outgoing, Participants, ParticipantsConfig, TargetError, contract,
    headers, methods,
    route::Routes,
    session::{Hello, Outbox, Session, SessionRefused},
};

/// Calls participants over gRPC, one lazy connection per endpoint.
pub struct GrpcParticipants {
    connector: Connector,
    routes: RwLock<Arc<Routes>>,
}

impl GrpcParticipants {
    /// Reaches these participants. Connections are made when they are first needed.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that can't be used.
    pub fn new(config: &ParticipantsConfig, connector: Connector) -> Result<Self, ConfigError> {
        let routes = Routes::build(config, &connector, &Routes::default())?;
        Ok(Self {
            connector,
            routes: RwLock::new(Arc::new(routes)),
        })
    }

    /// Goes on with another configuration. Calls under way end as they began; endpoints that stay
    /// keep their connections, participants that stay their sessions.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that can't be used; nothing has changed then.
    pub fn replace(&self, config: &ParticipantsConfig) -> Result<(), ConfigError> {
        let routes = Routes::build(config, &self.connector, &self.routes())?;
        let routes = Arc::new(routes);
        let old = std::mem::replace(&mut *self.routes.write(), Arc::clone(&routes));
        old.give_way_to(&routes);
        Ok(())
    }

    /// Opens a session of a participant that has connected: what hears it, and what speaks to it.
    ///
    /// # Errors
    /// [`SessionRefused`] says what is in the way.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn open_session(&self, hello: &Hello) -> Result<(Session, Outbox), SessionRefused> {
        self.routes().open(hello)
    }

    /// Opens no more sessions, and tells those that are open that the coordinator is going away.
    pub fn say_farewell(&self) {
        self.routes().pools().for_each(|pool| pool.say_farewell());
    }

    /// Ends all sessions.
    pub fn close_sessions(&self) {
        let refusing = SessionRefused::ShuttingDown;
        self.routes()
            .pools()
            .for_each(|pool| pool.close(refusing.clone(), &Ok(())));
    }

    fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read())
    }
}

impl Participants for GrpcParticipants {
    fn check(&self, target: &Target) -> Result<(), TargetError> {
        self.routes().find(target).map(drop)
    }

    fn perform(&self, outgoing: Outgoing) -> BoxFuture<'static, Answer> {
        let routes = self.routes();
        Box::pin(async move { perform(&routes, &outgoing).await })
    }

    fn query(&self, outgoing: Outgoing) -> BoxFuture<'static, QueryAnswer> {
        let routes = self.routes();
        Box::pin(async move { query(&routes, &outgoing).await })
    }
}

async fn perform(routes: &Routes, outgoing: &Outgoing) -> Answer {
    let began = Instant::now();
    let route = match routes.find(&outgoing.spec.target) {
        Ok(route) => route,
        Err(error) => return Answer::NotSent(unreachable_target(&error)),
    };
    let bytes_max = routes.payload_bytes_max;
    let answer = match &outgoing.spec.target {
        Target::Contract { resource, .. } => {
            contract::perform(route, outgoing, resource, bytes_max).await
        }
        Target::Methods(target) => methods::perform(route, outgoing, target, bytes_max).await,
    };
    let answer = answer.unwrap_or_else(Answer::from);
    let operation = headers::operation_name(outgoing.call.operation);
    route.measures.record(operation, began.elapsed(), &answer);
    answer
}

async fn query(routes: &Routes, outgoing: &Outgoing) -> QueryAnswer {
    let began = Instant::now();
    let route = match routes.find(&outgoing.spec.target) {
        Ok(route) => route,
        Err(error) => return QueryAnswer::Indeterminate(unreachable_target(&error)),
    };
    let bytes_max = routes.payload_bytes_max;
    let answer = match &outgoing.spec.target {
        Target::Contract { resource, .. } => {
            contract::query(route, outgoing, resource, bytes_max).await
        }
        Target::Methods(target) => methods::query(route, outgoing, target, bytes_max).await,
    };
    let answer = answer.unwrap_or_else(QueryAnswer::from);
    route.measures.record("query", began.elapsed(), &answer);
    answer
}

/// The configuration changed after the target was checked.
fn unreachable_target(error: &TargetError) -> Failure {
    let reason = match error {
        TargetError::NotFound { .. } => "PARTICIPANT_NOT_FOUND",
        TargetError::NoEndpoint { .. } | TargetError::NotAllowed { .. } => "TARGET_NOT_ALLOWED",
    };
    Failure::new(reason, error.to_string())
}
