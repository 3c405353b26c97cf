//! What both adapters share. The two client crates have the same API but no types in common, so this is a macro over the
//! crate's name. The invoking module provides what differs between the protocol versions:
//!
//! - `set_limits(&mut MqttOptions)`: timeouts and packet sizes,
//! - `set_session(&mut MqttOptions, &Connector)`: the persistent session,
//! - `set_will(&mut MqttOptions, topic, payload)`: the last will, retained and with QoS 1,
//! - `build(MqttOptions, capacity) -> (AsyncClient, EventLoop)`,
//! - `with_properties(PublishOptions, MessageKind) -> PublishOptions`,
//! - `publish_outcome(Result<PublishResult, PublishNoticeError>) -> PublishOutcome`,
//! - `subscribe_filter(String, RetainHandling) -> SubscribeFilterInput`,
//! - `subscribe_outcome(Result<SubAck, SubscribeNoticeError>) -> SubscribeOutcome`,
//! - `limits(&ConnAck) -> BrokerLimits` and `correlation(&Publish) -> Option<Bytes>`,
//! - `disconnect(&ConnectionError) -> Disconnect`: why a connection ended.

macro_rules! adapter {
    ($mqtt:ident) => {
        /// Opens a connection. It moves only while its event loop is polled.
        pub(super) fn connect(connector: &Connector, session: &SessionKind) -> (Box<dyn Client>, Box<dyn EventLoop>) {
            let options = match session {
                SessionKind::Persistent => {
                    let mut options = clean_options(connector, connector.client_id());
                    set_session(&mut options, connector);
                    let offline = connector.status_json(Presence::Offline, None);
                    set_will(&mut options, connector.topics.status(), offline);
                    options
                }
                SessionKind::Clean(client_id) => clean_options(connector, client_id.clone()),
                SessionKind::Probe(client_id) => {
                    let mut options = clean_options(connector, client_id.clone());
                    set_will(&mut options, connector.topics.health(), String::new());
                    options
                }
            };
            let (client, events) = build(options, connector.queue_capacity());
            let event_loop = MqttEventLoop {
                client: client.clone(),
                events,
            };
            (Box::new(MqttClient(client)), Box::new(event_loop))
        }

        fn clean_options(connector: &Connector, client_id: String) -> $mqtt::MqttOptions {
            let settings = &connector.settings;
            let mut options = $mqtt::MqttOptions::new(client_id, (settings.host.as_str(), settings.port));
            options
                .set_keep_alive(connector.keep_alive_s())
                .set_session_mode($mqtt::SessionMode::Clean);
            // With TLS: messages that are too large are cut between TLS and the client.
            let (host, tls, protocol) = (
                settings.host.clone(),
                connector.tls.as_ref().map(tls::TlsClientConfig::configuration),
                settings.protocol,
            );
            options.set_socket_connector(move |address, network| {
                stream::connect(address, network, host.clone(), tls.clone(), protocol)
            });
            if let Some(login) = &settings.login {
                options.set_credentials(login.user.expose().to_owned(), login.password.expose().to_owned());
            }
            set_limits(&mut options);
            options
        }

        /// A session store that always loads this session, which has nothing in flight. That is true, because each connection
        /// starts with a new client and the outbox holds whatever was not acknowledged. The client needs a stored session
        /// to resume the broker's, in which replies are queued.
        #[derive(Debug)]
        struct EmptySessionStore($mqtt::PersistedSession);

        impl $mqtt::SessionStore for EmptySessionStore {
            fn load<'a>(
                &'a self,
                _: &'a $mqtt::SessionStoreKey,
            ) -> BoxFuture<'a, Result<Option<$mqtt::PersistedSession>, $mqtt::SessionStoreError>> {
                Box::pin(async { Ok(Some(self.0.clone())) })
            }

            fn save<'a>(
                &'a self,
                _: &'a $mqtt::SessionStoreKey,
                _: &'a $mqtt::PersistedSession,
            ) -> BoxFuture<'a, Result<(), $mqtt::SessionStoreError>> {
                Box::pin(async { Ok(()) })
            }

            fn clear<'a>(
                &'a self,
                _: &'a $mqtt::SessionStoreKey,
            ) -> BoxFuture<'a, Result<(), $mqtt::SessionStoreError>> {
                Box::pin(async { Ok(()) })
            }
        }

        struct MqttClient($mqtt::AsyncClient);

        impl Client for MqttClient {
            fn send(&self, message: OutboundMessage) -> Result<BoxFuture<'static, PublishOutcome>, EnqueueError> {
                let qos = match message.kind.is_acknowledged() {
                    true => $mqtt::QoS::AtLeastOnce,
                    false => $mqtt::QoS::AtMostOnce,
                };
                let options = $mqtt::PublishOptions::new(qos).retain(message.kind.is_retained());
                let options = with_properties(options, message.kind);
                let notice = self
                    .0
                    .try_publish_tracked(message.topic, message.payload, options)
                    .map_err(|e| enqueue_error(&e))?;
                Ok(notice.wait_async().map(publish_outcome).boxed())
            }

            fn subscribe(
                &self,
                filters: Vec<String>,
                retain: RetainHandling,
            ) -> Result<BoxFuture<'static, SubscribeOutcome>, EnqueueError> {
                let filters = filters.into_iter().map(|filter| subscribe_filter(filter, retain));
                let notice = self
                    .0
                    .try_subscribe_many_tracked(filters)
                    .map_err(|e| enqueue_error(&e))?;
                let outcome = notice.wait_async().map(subscribe_outcome);
                Ok(outcome.boxed())
            }

            fn unsubscribe(&self, filter: String) -> Result<(), EnqueueError> {
                self.0.try_unsubscribe(filter).map_err(|e| enqueue_error(&e))
            }

            fn disconnect(&self) {
                // An error means that the connection has already ended.
                let _ = self.0.try_disconnect();
            }
        }

        fn enqueue_error(error: &$mqtt::ClientError) -> EnqueueError {
            match error {
                $mqtt::ClientError::InvalidRequest(_) => EnqueueError::InvalidTopic,
                _ => EnqueueError::QueueFull,
            }
        }

        struct MqttEventLoop {
            client: $mqtt::AsyncClient,
            events: $mqtt::EventLoop,
        }

        impl EventLoop for MqttEventLoop {
            fn next(&mut self) -> BoxFuture<'_, Event> {
                Box::pin(async {
                    loop {
                        match self.events.poll().await {
                            Ok($mqtt::Event::Incoming($mqtt::Incoming::ConnAck(ack))) => {
                                return Event::Connected(ConnAck {
                                    session_present: ack.session_present,
                                    limits: limits(&ack),
                                });
                            }
                            Ok($mqtt::Event::Incoming($mqtt::Incoming::Publish(publish))) => {
                                return Event::Message(inbound_message(&self.client, publish));
                            }
                            Ok(_) => {}
                            Err(e) => return Event::Disconnected(disconnect(&e)),
                        }
                    }
                })
            }
        }

        fn inbound_message(client: &$mqtt::AsyncClient, publish: $mqtt::Publish) -> InboundMessage {
            let (client, ack) = (client.clone(), client.prepare_ack(&publish));
            InboundMessage {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                is_retained: publish.retain,
                is_qos0: publish.qos == $mqtt::QoS::AtMostOnce,
                correlation: correlation(&publish),
                payload: publish.payload,
                ack: AckHandle(Box::new(move || {
                    if let Some(ack) = ack {
                        let _ = client.try_manual_ack(ack);
                    }
                })),
            }
        }
    };
}

pub(super) use adapter;
