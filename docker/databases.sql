-- PostgreSQL runs this once, when its volume is empty: a role and a database for each service.
\getenv service_password SERVICE_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
CREATE ROLE tandem LOGIN PASSWORD :'service_password';
CREATE DATABASE tandem OWNER tandem ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE tandem FROM PUBLIC;
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE mlflow FROM PUBLIC;
